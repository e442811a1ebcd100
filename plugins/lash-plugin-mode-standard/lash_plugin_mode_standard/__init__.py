"""The standard execution mode of lash: a model that calls tools until it has answered."""
