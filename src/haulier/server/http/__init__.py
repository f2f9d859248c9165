"""HTTP/1.1 itself: connections, bodies, interim responses, and the process that serves them."""
