"""The WebSocket protocol, server side, without I/O (RFC 6455, RFC 7692).

handshake.py      the request that asks for a WebSocket, and the 101 that accepts it
deflate.py        permessage-deflate: negotiation, and the compressed payload of messages
rules.py          the numbered rules that a client's frames must keep, and the codes of closing
masking.py        the mask of a client's payload
connection.py     everything after the 101: messages, control frames, the closing handshake
follower.py       where the frames of a server end, for those who only pass them on
"""
