import typer


def declare(app: typer.Typer) -> None:
    """Nothing yet."""
