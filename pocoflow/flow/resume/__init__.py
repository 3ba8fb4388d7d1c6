"""Resuming a stored run, or forking one, up to the point where the step loop takes over."""
