// kafkajs against a node: admin, idempotent and transactional producing, a group of two. node kafkajs.mjs HOST:PORT

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'

const { Kafka, logLevel, CompressionTypes } = kafkajs
const kafka = new Kafka({ clientId: 'compat', brokers: [process.argv[2]], logLevel: logLevel.ERROR })
const PATIENCE_MS = 60_000

const name = what => `${what}-${randomUUID().slice(0, 8)}`

async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS
  while (!holds()) {
    assert(Date.now() < end, what)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

const admin = kafka.admin()
await admin.connect()
const topic = name('topic')
await admin.createTopics({
  topics: [{ topic, numPartitions: 4, configEntries: [{ name: 'retention.ms', value: '604800000' }] }],
})
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
await producer.connect()
await producer.send({
  topic,
  acks: -1,
  compression: CompressionTypes.GZIP,
  messages: Array.from({ length: 100 }, (_, nth) => ({ key: `${nth}`, value: `plain ${nth}` })),
})
const writer = kafka.producer({ transactionalId: name('writer'), idempotent: true, maxInFlightRequests: 1 })
await writer.connect()
for (const [end, word] of [['abort', 'aborted'], ['commit', 'committed']]) {
  const transaction = await writer.transaction()
  await transaction.send({ topic, messages: Array.from({ length: 50 }, (_, nth) => ({ key: `${nth}`,
    value: `${word} ${nth}` })) })
  await transaction[end]()
}

const groupId = name('group')
const values = new Map()
const members = [kafka.consumer({ groupId }), kafka.consumer({ groupId })]
const parts = new Map()
for (const [nth, member] of members.entries()) {
  member.on(member.events.GROUP_JOIN, ({ payload }) => parts.set(nth, payload.memberAssignment[topic] ?? []))
  await member.connect()
  await member.subscribe({ topic, fromBeginning: true })
  await member.run({
    eachMessage: async ({ message }) => {
      const value = message.value.toString()
      values.set(value, (values.get(value) ?? 0) + 1)
    },
  })
}
await until('all records are read', () => values.size >= 150)
assert(![...values.keys()].some(value => value.startsWith('aborted')), 'what was aborted is read')
await until('each has a half', () => [0, 1].every(nth => parts.get(nth)?.length === 2))
await members[0].disconnect()
await until('one has all', () => parts.get(1).length === 4)
await members[1].disconnect()

const offsets = await admin.fetchOffsets({ groupId, topics: [topic] })
assert.equal(offsets[0].partitions.length, 4)
await admin.deleteGroups([groupId])
await admin.deleteTopics({ topics: [topic] })
assert(!(await admin.listTopics()).includes(topic))
await Promise.all([producer.disconnect(), writer.disconnect(), admin.disconnect()])
console.log('ok  kafkajs: admin, transactions, a group of two')
