"""The processes of a server: started, supervised, ended."""
