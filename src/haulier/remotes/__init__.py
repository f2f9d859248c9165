"""Places that files are sent to, each behind the port `Remote`."""
