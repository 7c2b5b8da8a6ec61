"""The HTTP surface: version 1 of the API, the facade that saga packages' own routes use, and the server."""
