const port = typeof postMessage === 'function' ? globalThis : (await import('node:worker_threads')).parentPort;
if (port.on) port.on('message', (m) => port.postMessage(m));
else port.onmessage = (e) => port.postMessage(e.data);
