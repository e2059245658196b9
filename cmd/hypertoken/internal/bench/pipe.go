package bench

// childPipe echoes 32 bytes, for the bare pipe.
const childPipe = "pipe"

// messageSize is that of what the baselines send to and fro, in bytes.
const messageSize = 32

const aboutPipe = "32 bytes to a process and back over two pipes, both sides spinning"
