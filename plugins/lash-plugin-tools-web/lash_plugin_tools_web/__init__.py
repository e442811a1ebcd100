"""Tools that read the web, and reach nothing but the public one."""
