"""What xend plugs a domain's network interfaces into: user networks, switches, bridges, networks of the host's."""
