"""Work on bytes of strangers, in child processes that have little to lose.

Nothing is re-exported: a child imports this package too, and should load no more than it needs. What to use is
`processor.BoundedProcessor` and `limits.Limits`.
"""
