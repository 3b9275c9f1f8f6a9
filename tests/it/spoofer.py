"""A hostile host on the local network: announces the ids of others at its own addresses, repeats
there what they announce, answers in several hostile ways, and writes down every byte it is sent.

One argument, JSON: {"addresses", "ids", "ports": {mode: port}, "closed": [port, …],
"relay_to": [ip, port], "flood": bool, "record": path}
"""

import itertools
import json
import random
import socket
import struct
import sys
import threading
import time

told = json.loads(sys.argv[1])
record = open(told["record"], "ab", buffering=0)


def heard(data):
    record.write(data)


def reset(connection):
    heard(connection.recv(65536))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def stall(connection):
    while data := connection.recv(65536):
        heard(data)


def answering(head, body):
    def answer(connection):
        while data := connection.recv(65536):
            heard(data)
            length = f"Content-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + length + body)

    return answer


def relay(connection):
    server = socket.create_connection(tuple(told["relay_to"]))

    def back():
        while data := server.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=back, daemon=True).start()
    while data := connection.recv(65536):
        heard(data)
        server.sendall(data)
    server.shutdown(socket.SHUT_WR)


SEALED = b"Content-Type: application/vnd.storysync.sealed\r\n"
MODES = {
    "reset": reset,
    "stall": stall,
    "garbage": answering(b"HTTP/1.1 200 OK\r\n" + SEALED, b"SSY1" + random.randbytes(200)),
    "refuse": answering(b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\n", b"no"),
    "fail": answering(b"HTTP/1.1 500 Internal Server Error\r\n", b"oh"),
    "relay": relay,
}


def serve(mode, port):
    def handle(connection):
        try:
            MODES[mode](connection)
        except OSError:
            pass

    listener = socket.create_server(("0.0.0.0", port), backlog=64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


def name(text):
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".")) + b"\0"


def announcement(device, address, ports):
    """As libp2p's mDNS sends it: one pointer, and one text for each address."""
    own = name("".join(random.choices("abcdefghijklmnop", k=40)))
    texts = b""
    for port in ports:
        text = f"dnsaddr=/ip4/{address}/tcp/{port}/http/http-path/desk/p2p/{device}".encode()
        texts += own + struct.pack("!HHIH", 16, 0x8001, 60, len(text) + 1)
        texts += bytes([len(text)]) + text
    head = struct.pack("!HHHHHH", random.randrange(65536), 0x8400, 0, 1, 0, len(ports))
    pointer = name("_p2p._udp.local") + struct.pack("!HHIH", 12, 1, 60, len(own)) + own
    return head + pointer + texts


for mode, port in told["ports"].items():
    threading.Thread(target=serve, args=(mode, port), daemon=True).start()

senders = []
for address in told["addresses"]:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    sender.bind((address, 0))
    senders.append((address, sender))



def repeat():
    """What others announce, word for word, from here."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("224.0.0.251", 5353))
    group = socket.inet_aton("224.0.0.251") + socket.inet_aton(told["addresses"][0])
    listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    while True:
        packet, (sender, _) = listener.recvfrom(9000)
        if sender not in told["addresses"] and b"dnsaddr=" in packet:
            for _, own in senders:
                own.sendto(packet, ("224.0.0.251", 5353))


threading.Thread(target=repeat, daemon=True).start()
print("READY", flush=True)
services = list(told["ports"].values()) + told["closed"]
for device, (address, sender) in itertools.cycle(itertools.product(told["ids"], senders)):
    ports = list(services)
    if told["flood"]:
        # Nobody listens there.
        ports += [random.randrange(20000, 60000) for _ in range(4)]
        random.shuffle(ports)
    for some in range(0, len(ports), 6):
        sender.sendto(announcement(device, address, ports[some : some + 6]), ("224.0.0.251", 5353))
    time.sleep(0.01 if told["flood"] else 0.2)
