// aedes for tests/guarded_brokers.py: node aedes.mjs PORT PASSWORD. The user `box` may not touch forbidden/#.
import { Aedes } from 'aedes'
import net from 'node:net'

const [port, password] = process.argv.slice(2)
const allowed = (client, topic) => !client || client.user !== 'box' || !topic.startsWith('forbidden/')

const broker = await Aedes.createBroker({
  authenticate (client, user, given, done) {
    client.user = user
    done(null, String(given) === password)
  },
  authorizePublish (client, packet, done) {
    done(allowed(client, packet.topic) ? null : new Error('denied'))
  },
  authorizeSubscribe (client, subscription, done) {
    done(null, allowed(client, subscription.topic) ? subscription : null)
  }
})
net.createServer(broker.handle).listen(Number(port), '127.0.0.1')
