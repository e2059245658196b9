export default { cacheDir: '../.built/vitest' };
