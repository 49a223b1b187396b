"""Completion scripts, one module a shell: `script()` is the text, made from the commands' parsers."""

DOMAINS = "xm list --names 2>/dev/null"
"""What prints the names of all domains without starting xend."""
