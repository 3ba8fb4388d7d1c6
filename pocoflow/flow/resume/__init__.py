"""Going on with a stored run, and forking one: what is needed before the step loop takes over."""
