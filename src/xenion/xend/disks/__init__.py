"""What xend opens for a domain's disks: images, locks on them, storage daemons, connections to NBD servers."""
