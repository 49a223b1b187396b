"""The API of xend: its actions as types, and a client. Standard library only, for xm starts with it."""
