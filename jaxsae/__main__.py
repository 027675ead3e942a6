"""`python -m jaxsae` is the command `jaxsae`."""

from jaxsae.cli import main

if __name__ == "__main__":
    main()
