// A worker that appends records to a file of the origin (OPFS). It answers when they are in the file, and if `flush` is true, on the disk.

let file, name, end = 0;

async function open(flush) {
  name = flush ? 'measured flushed' : 'measured written';
  const folder = await navigator.storage.getDirectory();
  file = await (await folder.getFileHandle(name, { create: true })).createSyncAccessHandle();
  file.truncate(0);
}

async function remove() {
  file.close();
  await (await navigator.storage.getDirectory()).removeEntry(name);
}

onmessage = async ({ data: { records, flush, over } }) => {
  if (records) {
    end += file.write(records, { at: end });
    if (flush) file.flush();
  } else {
    await (over ? remove() : open(flush));
  }
  postMessage(null);
};
