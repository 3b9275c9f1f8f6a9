"""Asks who is on the network for some seconds, and prints every packet that comes: one argument, the
address to listen at."""

import socket
import sys
import time

own = sys.argv[1]
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", 5353))
group = socket.inet_aton("224.0.0.251") + socket.inet_aton(own)
listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
listener.settimeout(0.2)
question = b"\0\0\0\0\0\1\0\0\0\0\0\0\4_p2p\4_udp\5local\0\0\x0c\0\1"
end = time.monotonic() + 4
while time.monotonic() < end:
    listener.sendto(question, ("224.0.0.251", 5353))
    try:
        while True:
            sys.stdout.buffer.write(listener.recv(9000))
    except TimeoutError:
        pass
