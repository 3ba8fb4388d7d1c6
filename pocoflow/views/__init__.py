"""Shared by the command line and the monitor."""
