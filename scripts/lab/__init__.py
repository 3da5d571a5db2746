"""What network.py, kill.py and memory.py are made of: a scripted backend and coordinator, clients, processes, a network."""
