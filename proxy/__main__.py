"""Entry point: `python -m proxy` is `payproxy`."""

from proxy.cli.entry import main

if __name__ == "__main__":
    main()
