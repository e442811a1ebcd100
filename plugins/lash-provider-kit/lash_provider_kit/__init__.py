"""What lash's model providers share: transport, server-sent events, retries, failure kinds, redaction."""
