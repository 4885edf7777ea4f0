#!/usr/bin/env python
"""Operations of CV Studio: `manage.py help` lists them."""

from cvstudio.__main__ import main

if __name__ == "__main__":
    main()
