"""Many boxes at once, from what their stations keep on the broker: how they stand, and updates in waves."""
