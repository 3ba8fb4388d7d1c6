"""The engine: what runs a graph over a store, and the only caller of the users' code.

``loop`` is the step loop, a generator; ``attempts`` and ``batch`` are its parts for ``exec``. What
it cannot do itself, to wait, sleep or call something that may block, it yields as an effect
(``effects``), and a driver carries it out (``drivers``). ``line`` is the state of one execution,
``hooks`` who is told of it.
"""
