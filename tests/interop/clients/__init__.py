"""Foreign clients as programs of their own, each told what to do by one argument of JSON."""
