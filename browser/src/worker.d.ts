// The worker's script exports nothing: a page starts it, and talks to it by messages.
export {};
