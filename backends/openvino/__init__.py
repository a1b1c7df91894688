"""OpenVINO on the CPU: INT8 programs in INT8 kernels."""
