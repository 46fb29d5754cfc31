"""The front end: calls in and answers out over HTTP, and the pages about them."""
