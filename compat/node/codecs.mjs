// What kafkajs writes in each codec, and reads of all.
//   node codecs.mjs HOST:PORT write RUN       node codecs.mjs HOST:PORT read RUN WRITER...

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import * as zstd from '@bokuweb/zstd-wasm'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import lz4 from 'lz4-napi'

const { Kafka, logLevel, CompressionCodecs, CompressionTypes } = kafkajs
const [, , node, what, run, ...writers] = process.argv
const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const COUNT = 300
const PATIENCE_MS = 60_000

// kafkajs has gzip itself.
await zstd.init()
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer, { defaultHeapSize: 4 << 20 })),
})

const kafka = new Kafka({ clientId: 'codecs', brokers: [node], logLevel: logLevel.ERROR })
const topic = (writer, codec) => `codecs-${run}-${writer}-${codec}`
const value = number => (number % 50 === 49 ? null : `${number}:` + 'abcdefghij'.repeat((number * 37) % 500))

async function write() {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (const [compression, codec] of CODECS.entries()) {
    const messages = Array.from({ length: COUNT }, (_, number) => (
      { key: `kafkajs-${number}`, value: value(number), partition: 0, headers: { codec } }))
    await producer.send({ topic: topic('kafkajs', codec), acks: -1, compression, messages })
  }
  await producer.disconnect()
}

async function read() {
  const found = new Map()
  const consumer = kafka.consumer({ groupId: `codecs-${randomUUID()}` })
  await consumer.connect()
  for (const codec of CODECS) {
    for (const writer of writers) {
      found.set(topic(writer, codec), [])
      await consumer.subscribe({ topic: topic(writer, codec), fromBeginning: true })
    }
  }
  await consumer.run({ eachMessage: async ({ topic, message }) => { found.get(topic).push(message) } })
  const end = Date.now() + PATIENCE_MS
  while ([...found.values()].some(records => records.length < COUNT)) {
    const short = [...found].filter(([, records]) => records.length < COUNT).map(([name]) => name)
    assert(Date.now() < end, `records are missing of ${short}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  await consumer.disconnect()
  for (const codec of CODECS) {
    for (const writer of writers) {
      for (const [number, record] of found.get(topic(writer, codec)).entries()) {
        const it = `${writer} ${codec} ${number}`
        assert.equal(record.offset, `${number}`, it)
        assert.equal(record.key.toString(), `${writer}-${number}`, it)
        assert.equal(record.value?.toString() ?? null, value(number), it)
        assert.equal(record.headers.codec.toString(), codec, it)
      }
    }
    console.log('ok  codecs: kafkajs reads', codec, 'of', ...writers)
  }
}

await (what === 'write' ? write() : read())
