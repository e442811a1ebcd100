"""The smallest useful lash plugin: a tool and a checkpoint hook."""
