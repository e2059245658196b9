// Serves the demo from the sources, for work on it: node demo/dev.js [port]. `hypertoken serve --demo` has the same addresses and headers.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const types = {
  '.css': 'text/css; charset=utf-8', '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml', '.wasm': 'application/wasm',
};

const headers = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

const near = (path) => fileURLToPath(new URL(path, import.meta.url));

async function bundle(entry) {
  const { outputFiles } = await build({
    entryPoints: [near(entry)], bundle: true, write: false, format: 'esm', target: 'es2022', external: ['node:*'], legalComments: 'none',
  });
  return outputFiles[0].contents;
}

const built = {
  '/hypertoken/hypertoken.js': () => bundle('../src/index.js'),
  '/workers/hypertoken.worker.js': () => bundle('../src/worker.js'),
  '/wasm/core.wasm': () => readFile(near('../../wasm/core.wasm')),
};

async function body(path) {
  if (path in built) return built[path]();
  const [, name] = /^\/([a-z]+\.(?:css|html|js|svg))$/.exec(path) ?? []; // one flat folder, and nothing but pages
  if (!name || name === 'dev.js') return null;
  return readFile(near(name)).catch(() => null);
}

/** Starts the server on 127.0.0.1; port 0 takes a free one. */
export function serve(port = 0) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const path = pathname === '/' ? '/index.html' : pathname;
    try {
      const found = await body(path);
      response.writeHead(found ? 200 : 404, { ...headers, 'Content-Type': found ? types[extname(path)] : 'text/plain' });
      response.end(found ?? 'not found\n');
    } catch (error) {
      response.writeHead(500, { ...headers, 'Content-Type': 'text/plain' }).end(`${error.message}\n`);
    }
  });
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(Number(argv[2] ?? 8080));
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
}
