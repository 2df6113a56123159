"""`python -m sseproof` is `sseproof`."""

from sseproof.cli import main

if __name__ == "__main__":
    main()
