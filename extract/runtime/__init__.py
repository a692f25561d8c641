"""Sessions: providers, OpenVINO, precisions, and which of them this machine has."""
