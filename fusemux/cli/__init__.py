"""The command line: `fusemux`."""
