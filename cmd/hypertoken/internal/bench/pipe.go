package bench

// childPipe echoes 32 bytes, for the bare pipe.
const childPipe = "pipe"

// messageSize is the size of the messages that the baselines send and get back, in bytes.
const messageSize = 32

const aboutPipe = "32 bytes to a process and back over two pipes, both sides spinning"
