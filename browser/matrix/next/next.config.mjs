// Next looks for its root where a lock file is. The test says where each of its builds goes.
const root = new URL('..', import.meta.url).pathname;

export default { distDir: process.env.NEXT_BUILT, outputFileTracingRoot: root, turbopack: { root } };
