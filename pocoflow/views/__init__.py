"""What the command line and the monitor share."""
