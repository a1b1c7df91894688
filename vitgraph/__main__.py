"""The program `vitgraph`, also as `python -m vitgraph`: signals are heeded from the first moment, ahead of everything heavy."""

import sys
from importlib import import_module


def run() -> int:
    """Run the command line and return its exit status; 130 or 143 where SIGINT or SIGTERM ended it."""
    from vitgraph.tools.interruption import TOLD, EndingSignals

    signals = EndingSignals()
    signals.leave_at_once()
    main = import_module("vitgraph.tools.cli").main
    try:
        signals.interrupt()
        status: int = main()
    except BaseException:  # a command tells its own; this one came ahead of it, or was made something else on its way
        if not signals.status:
            raise
        print(f"vitgraph: {TOLD}", file=sys.stderr)
        status = signals.status
    signals.leave_at_once()
    return signals.status if status and signals.status else status


if __name__ == "__main__":
    sys.exit(run())
