"use strict";
/* Blocks of arrays, as block.py writes them: base64 of gzip of safetensors, in scripts that call `receive`.
   A page from disk may load scripts, and may not read files in any other way. */

const Data = (() => {
  const PAGES_KEPT = 48; // of some tens of kilobytes each: what was looked at last is there at once
  const TYPES = { F32: Float32Array, I8: Int8Array, I16: Int16Array, I32: Int32Array, U32: Uint32Array };
  const waiting = new Map(); // key -> what to do with the text
  const kept = new Map(); // key -> promise of a block, the one used last at the end

  function load(key) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const done = () => { waiting.delete(key); script.remove(); };
      waiting.set(key, (packed) => { done(); resolve(unpack(packed)); });
      script.onerror = () => { done(); reject(new Error(`data/${key}.js cannot be read. Was the folder copied whole?`)); };
      script.src = `data/${key}.js`;
      document.head.append(script);
    });
  }

  function bytes(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const text = atob(base64), out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
    return out;
  }

  /* -> {json, and for each array {data, shape, width}}, where `width` is the number of values of one row. */
  async function unpack(base64) {
    if (!window.DecompressionStream) throw new Error("This browser is too old: Chrome 80, Firefox 113, Safari 16.4 or newer.");
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
    const { __metadata__: told, ...arrays } = header;
    const block = { json: JSON.parse(told?.json ?? "null") };
    for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(arrays)) {
      const data = new TYPES[dtype](buffer.slice(start + from, start + to)); // a copy: a view would have to be aligned
      block[name] = { data, shape, width: shape.slice(1).reduce((a, b) => a * b, 1) };
    }
    return block;
  }

  /* A block that may be let go of again. */
  function page(key) {
    const found = kept.get(key) ?? load(key);
    kept.delete(key);
    kept.set(key, found);
    found.catch(() => kept.delete(key)); // so that it is tried again
    if (kept.size > PAGES_KEPT) kept.delete(kept.keys().next().value);
    return found;
  }

  const row = (array, i) => array.data.subarray(i * array.width, (i + 1) * array.width);

  return { load, page, row, receive: (key, packed) => waiting.get(key)?.(packed) };
})();

const receive = Data.receive; // what the files of blocks call
