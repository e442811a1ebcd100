"""The execution mode `coder` of lash: works on the files of a folder, and asks before it acts."""
