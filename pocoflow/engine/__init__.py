"""The engine: runs a graph over a store, and is the only caller of the users' code.

``loop`` is the step loop, a generator; ``attempts`` and ``batch`` are its parts for ``exec``. What
it cannot do itself, such as waiting, sleeping or calling something that may block, it yields as an
effect (``effects``), and a driver carries it out (``drivers``). ``line`` is the state of one
execution.
"""
