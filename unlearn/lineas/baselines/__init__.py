"""Published ways to steer with maps of the same kind, fitted in closed form: what LinEAS is compared with."""
