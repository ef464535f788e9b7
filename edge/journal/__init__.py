"""The verdict journal: durable before anything is published, chained by hashes, bounded."""
