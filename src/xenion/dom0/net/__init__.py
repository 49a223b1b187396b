"""The network back end: netif rings on one side (public/io/netif.h), a wire on the other."""
