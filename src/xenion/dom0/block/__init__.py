"""The block back end: blkif rings on one side (public/io/blkif.h), disk images on the other."""
