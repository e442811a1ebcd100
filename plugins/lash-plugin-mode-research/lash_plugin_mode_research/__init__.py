"""The execution mode `research` of lash: reads the web, and keeps notes of what was found."""
