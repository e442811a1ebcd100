"""Tools of MCP servers, as a connected toolset for each."""
