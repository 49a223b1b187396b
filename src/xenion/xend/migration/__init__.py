"""Running domains on their way from one xend to another.

outgoing.py    the source's side of a migration       wire.py       what the two say, in frames on a stream
incoming.py    the target's                           talk.py       their messages
decided.py     who has it when the answer was lost    disks.py      whether both see the same disks
listening.py   where others come in                   arrivals.py   what has come to this host, for good
"""
