"""What is fitted on good parts: activation ranges and limits with a guarantee. numpy only."""

__all__: list[str] = []
