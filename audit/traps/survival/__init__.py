"""Which planted traps a cleaning pipeline would leave."""
